// A driver with everything that tenure calls but an old version: the rest comes from the emulated
// driver, which this library is linked to.
extern "C" int cuDriverGetVersion(int* version);
extern "C" int cuDriverGetVersion(int* version) {
  *version = 11080;
  return 0;
}
