#include "services/controller/report/rows/md5_sha256.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <utility>

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace drover {
namespace {

constexpr Md5Sha256::State kStart = {
    {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476},
    {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};

#ifdef __x86_64__

#define DROVER_SHA_TARGET [[gnu::target("sha,sse4.1")]]

constexpr std::array<uint32_t, 64> kMd5Sines = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};
alignas(16) constexpr std::array<uint32_t, 64> kSha256Primes = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};
constexpr int kMd5Shifts[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};

// Step `i` of MD5: a is replaced.
template <int i>
[[gnu::always_inline]] inline void Md5Step(uint32_t& a, uint32_t b, uint32_t c, uint32_t d,
                                           const uint32_t* words) {
  constexpr int kRound = i / 16;
  if constexpr (kRound == 0) {
    a += words[i] + kMd5Sines[i] + (((c ^ d) & b) ^ d);
  } else if constexpr (kRound == 1) {
    // b & d | c & ~d as a sum: what does not wait for b is added first.
    a += words[(5 * i + 1) % 16] + kMd5Sines[i] + (c & ~d);
    a += b & d;
  } else if constexpr (kRound == 2) {
    a += words[(3 * i + 5) % 16] + kMd5Sines[i] + (b ^ (c ^ d));
  } else {
    a += words[(7 * i) % 16] + kMd5Sines[i] + (c ^ (b | ~d));
  }
  a = std::rotl(a, kMd5Shifts[kRound][i % 4]) + b;
}

struct Sha256Lanes {
  __m128i abef;
  __m128i cdgh;
};

// Rounds 4 * group to 4 * group + 3 of SHA-256. `words` are the last 16 of the message's schedule.
template <int group>
DROVER_SHA_TARGET [[gnu::always_inline]] inline void Sha256Rounds(Sha256Lanes& lanes, __m128i (&words)[4],
                                                                  const char* block) {
  __m128i& now = words[group % 4];
  if constexpr (group < 4) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    now = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block) + group), big_endian);
  } else {
    const __m128i last = words[(group + 3) % 4];
    const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(now, words[(group + 1) % 4]),
                                      _mm_alignr_epi8(last, words[(group + 2) % 4], 4));
    now = _mm_sha256msg2_epu32(sum, last);
  }
  const __m128i primes = _mm_load_si128(reinterpret_cast<const __m128i*>(kSha256Primes.data()) + group);
  const __m128i input = _mm_add_epi32(now, primes);
  lanes.cdgh = _mm_sha256rnds2_epu32(lanes.cdgh, lanes.abef, input);
  lanes.abef = _mm_sha256rnds2_epu32(lanes.abef, lanes.cdgh, _mm_shuffle_epi32(input, 0x0e));
}

// Either algorithm alone is for the last blocks, which differ: each has the length in its own byte order.
enum class Which { kBoth, kMd5, kSha256 };

template <Which which, int group>
DROVER_SHA_TARGET [[gnu::always_inline]] inline void Group(std::array<uint32_t, 4>& md5,
                                                           const uint32_t* md5_words, Sha256Lanes& lanes,
                                                           __m128i (&sha256_words)[4], const char* block) {
  if constexpr (which != Which::kMd5) Sha256Rounds<group>(lanes, sha256_words, block);
  if constexpr (which != Which::kSha256) {
    auto& [a, b, c, d] = md5;
    Md5Step<4 * group>(a, b, c, d, md5_words);
    Md5Step<4 * group + 1>(d, a, b, c, md5_words);
    Md5Step<4 * group + 2>(c, d, a, b, md5_words);
    Md5Step<4 * group + 3>(b, c, d, a, md5_words);
  }
}

template <Which which, int... groups>
DROVER_SHA_TARGET void HashBlocks(Md5Sha256::State& state, const char* block, size_t blocks,
                                  std::integer_sequence<int, groups...>) {
  std::array<uint32_t, 4> md5 = state.md5;
  auto* const sha256 = reinterpret_cast<__m128i*>(state.sha256.data());
  const __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128(sha256), 0xb1);
  const __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128(sha256 + 1), 0x1b);
  Sha256Lanes lanes = {_mm_alignr_epi8(cdab, efgh, 8), _mm_blend_epi16(efgh, cdab, 0xf0)};

  for (; blocks > 0; --blocks, block += 64) {
    uint32_t md5_words[16];
    std::memcpy(md5_words, block, sizeof md5_words);
    __m128i sha256_words[4] = {};
    const std::array<uint32_t, 4> md5_before = md5;
    const Sha256Lanes lanes_before = lanes;
    (Group<which, groups>(md5, md5_words, lanes, sha256_words, block), ...);
    if constexpr (which != Which::kSha256) {
      for (size_t i = 0; i < md5.size(); ++i) md5[i] += md5_before[i];
    }
    if constexpr (which != Which::kMd5) {
      lanes.abef = _mm_add_epi32(lanes.abef, lanes_before.abef);
      lanes.cdgh = _mm_add_epi32(lanes.cdgh, lanes_before.cdgh);
    }
  }

  state.md5 = md5;
  const __m128i feba = _mm_shuffle_epi32(lanes.abef, 0x1b);
  const __m128i dchg = _mm_shuffle_epi32(lanes.cdgh, 0xb1);
  _mm_storeu_si128(sha256, _mm_blend_epi16(feba, dchg, 0xf0));
  _mm_storeu_si128(sha256 + 1, _mm_alignr_epi8(dchg, feba, 8));
}

template <Which which>
void Hash(Md5Sha256::State& state, const char* block, size_t blocks) {
  HashBlocks<which>(state, block, blocks, std::make_integer_sequence<int, 16>());
}

bool HasShaExtensions() {
  unsigned int a = 0;
  unsigned int b = 0;
  unsigned int c = 0;
  unsigned int d = 0;
  constexpr unsigned int kSse41 = 1U << 19;  // leaf 1, ecx
  constexpr unsigned int kSha = 1U << 29;    // leaf 7, ebx
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kSse41) == 0) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & kSha) != 0;
}

#else

enum class Which { kBoth, kMd5, kSha256 };

template <Which which>
void Hash(Md5Sha256::State&, const char*, size_t) {
  std::abort();
}

bool HasShaExtensions() { return false; }

#endif

}  // namespace

bool Md5Sha256::Available() {
  static const bool available = HasShaExtensions();
  return available;
}

Md5Sha256::Md5Sha256() : state_(kStart) {}

void Md5Sha256::Update(std::string_view bytes) {
  const size_t waiting = bytes_ % kBlockBytes;
  bytes_ += bytes.size();
  if (waiting > 0) {
    const size_t taken = std::min(bytes.size(), kBlockBytes - waiting);
    std::memcpy(waiting_.data() + waiting, bytes.data(), taken);
    bytes.remove_prefix(taken);
    if (waiting + taken < kBlockBytes) return;
    Hash<Which::kBoth>(state_, waiting_.data(), 1);
  }
  const size_t blocks = bytes.size() / kBlockBytes;
  Hash<Which::kBoth>(state_, bytes.data(), blocks);
  bytes.remove_prefix(blocks * kBlockBytes);
  std::copy(bytes.begin(), bytes.end(), waiting_.begin());
}

Md5Sha256::Digests Md5Sha256::Finish() {
  // What waits, a bit that is set, zeros, and the number of bits in the last eight bytes.
  std::array<char, 2 * kBlockBytes> end{};
  const size_t waiting = bytes_ % kBlockBytes;
  std::copy_n(waiting_.begin(), waiting, end.begin());
  end[waiting] = static_cast<char>(0x80);
  const size_t blocks = waiting + 9 > kBlockBytes ? 2 : 1;
  char* const length = end.data() + blocks * kBlockBytes - 8;
  const uint64_t bits = bytes_ * 8;
  for (int i = 0; i < 8; ++i) length[i] = static_cast<char>(bits >> (8 * i));
  Hash<Which::kMd5>(state_, end.data(), blocks);
  std::reverse(length, length + 8);
  Hash<Which::kSha256>(state_, end.data(), blocks);

  Digests digests{};
  for (size_t i = 0; i < kMd5Bytes; ++i)
    digests.md5[i] = static_cast<uint8_t>(state_.md5[i / 4] >> (8 * (i % 4)));
  for (size_t i = 0; i < kSha256Bytes; ++i)
    digests.sha256[i] = static_cast<uint8_t>(state_.sha256[i / 4] >> (24 - 8 * (i % 4)));
  *this = Md5Sha256();
  return digests;
}

}  // namespace drover
