// The visibility of public symbols.
#ifndef COMMON_EXPORT_H_
#define COMMON_EXPORT_H_

// Marks a symbol that programs may link against. All others are hidden (-fvisibility=hidden).
#define TENURE_EXPORT __attribute__((visibility("default")))

#endif  // COMMON_EXPORT_H_
