// A driver that lacks most of what tenure calls.
extern "C" int cuInit(unsigned int flags);
extern "C" int cuInit(unsigned int) { return 0; }

extern "C" int cuDriverGetVersion(int* version);
extern "C" int cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}
