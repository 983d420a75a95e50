/* What one core can do at most: multiply-adds in registers, and reading memory. For measure_floor.py. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif

typedef float floats __attribute__((vector_size(BYTES)));
typedef int32_t words __attribute__((vector_size(BYTES)));

/* Keep the compiler from computing any of it beforehand, and from leaving it out. */
#if defined(__AVX512F__)
#define KEEP(value) __asm__ volatile("" : "+v"(value))
#elif defined(__x86_64__)
#define KEEP(value) __asm__ volatile("" : "+x"(value))
#elif defined(__aarch64__)
#define KEEP(value) __asm__ volatile("" : "+w"(value))
#else
#define KEEP(value) __asm__ volatile("" : "+m"(value))
#endif

/* Twelve sums, as variables: an array would be kept in memory. They hide how long an instruction takes. */
#define SUMS 12
#define EACH(DO) DO(s0) DO(s1) DO(s2) DO(s3) DO(s4) DO(s5) DO(s6) DO(s7) DO(s8) DO(s9) DO(s10) DO(s11)
#define NAMES s0 = {0}, s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0, s8 = s0, s9 = s0, s10 = s0, s11 = s0

/* Multiply and add float32 numbers; returns how many products. */
double multiply_floats(size_t rounds)
{
    floats NAMES, x = s0, y = s0;
    KEEP(x);
    KEEP(y);
    for (size_t round = 0; round < rounds; ++round) {
#define ADD(sum) sum += x * y; KEEP(sum);
        EACH(ADD)
#undef ADD
    }
    return (double)rounds * SUMS * (BYTES / 4);
}

/* Multiply unsigned by signed bytes and add to 32 bits, by the best instructions; returns how many products. */
#if defined(__AVX512VNNI__)
#define PRODUCTS(sum) (words)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)y)
#elif defined(__AVX512BW__)
#define PRODUCTS(sum) sum + (words)_mm512_madd_epi16(_mm512_maddubs_epi16((__m512i)x, (__m512i)y), (__m512i)ones)
#elif defined(__AVXVNNI__)
#define PRODUCTS(sum) (words)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)x, (__m256i)y)
#elif defined(__AVX2__)
#define PRODUCTS(sum) sum + (words)_mm256_madd_epi16(_mm256_maddubs_epi16((__m256i)x, (__m256i)y), (__m256i)ones)
#elif defined(__ARM_FEATURE_DOTPROD)
#define PRODUCTS(sum) (words)vdotq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)y)
#endif
double multiply_bytes(size_t rounds)
{
#ifdef PRODUCTS
    words NAMES, x = s0, y = s0, ones = s0;
    KEEP(x);
    KEEP(y);
    KEEP(ones);
    for (size_t round = 0; round < rounds; ++round) {
#define ADD(sum) sum = PRODUCTS(sum); KEEP(sum);
        EACH(ADD)
#undef ADD
    }
    return (double)rounds * SUMS * BYTES;
#else
    (void)rounds;
    return 0; /* no such instructions */
#endif
}

/* Read memory; returns a sum, so that all of it is read. */
int64_t read_bytes(const uint8_t *from, size_t count)
{
    words NAMES;
    int64_t total = 0;
    for (size_t place = 0; place + SUMS * sizeof s0 <= count; place += SUMS * sizeof s0) {
        const uint8_t *here = from + place;
        words some;
#define ADD(sum) memcpy(&some, here, sizeof some); sum += some; here += sizeof some;
        EACH(ADD)
#undef ADD
    }
#define ADD(sum) for (size_t k = 0; k < BYTES / 4; ++k) total += sum[k];
    EACH(ADD)
#undef ADD
    return total;
}
