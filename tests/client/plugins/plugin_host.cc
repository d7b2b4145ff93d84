// plugin_host --socket PATH PLUGIN...: loads the plug-ins in this order, then uses each of them.
#include <dlfcn.h>

#include <cstdio>
#include <string>
#include <vector>

int main(int argc, char** argv) {
  std::vector<int (*)(const char*)> uses;
  for (int i = 3; i < argc; ++i) {
    void* const plugin = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL);
    void* const use = plugin == nullptr ? nullptr : dlsym(plugin, "UseTenure");
    if (use == nullptr) return std::puts(dlerror()), 1;
    uses.push_back(reinterpret_cast<int (*)(const char*)>(use));
  }
  for (const auto use : uses) {
    if (use(argv[2]) != 0) return 1;
  }
  std::puts("used");
}
