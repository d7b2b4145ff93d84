#ifndef CLIENT_EXPORT_H_
#define CLIENT_EXPORT_H_

// Marks what the outside may link against; everything else is hidden.
#define TENURE_EXPORT __attribute__((visibility("default")))

#endif  // CLIENT_EXPORT_H_
