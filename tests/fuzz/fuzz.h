// What the fuzz targets share.
#ifndef DROVER_TESTS_FUZZ_FUZZ_H_
#define DROVER_TESTS_FUZZ_FUZZ_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

// Ends the process, which libFuzzer reports with the input that led here.
#define DROVER_FUZZ_EXPECT(condition)                                              \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                \
    }                                                                              \
  } while (false)

namespace drover {

inline std::string_view AsText(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

}  // namespace drover

#endif  // DROVER_TESTS_FUZZ_FUZZ_H_
