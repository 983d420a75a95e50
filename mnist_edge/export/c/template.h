@@banner
#ifndef PREFIX_H
#define PREFIX_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

@@constants

extern const char *const prefix_labels[PREFIX_CLASSES]; /* in UTF-8 */

/* Compute the sums of the last layer, with integers only.

   pixels: PREFIX_PIXELS bytes, row by row; 0 is background, 255 full ink.
   arena:  PREFIX_ARENA bytes of any alignment, to work in, as bytes and as aligned int16_t and int32_t. Calls with
           different arenas may run at the same time.
   sums:   PREFIX_CLASSES numbers. Each is the class's logit in steps of its own. */
void prefix_sums(const uint8_t *pixels, void *arena, int32_t *sums);

/* Compute the logits, PREFIX_CLASSES of them, and return the winning class. */
int prefix_logits(const uint8_t *pixels, void *arena, float *logits);

#ifdef PREFIX_PROBABILITY
/* The probability of the most probable class, 0 to 1, calibrated if PREFIX_CALIBRATED. */
float prefix_probability(const float *logits);

/* The out-of-distribution score, 0 to 1: the share of real images that look less unusual. 0 if not calibrated. */
float prefix_ood_score(const float *logits);

/* The winning class, or -1 to abstain: if it is less probable than min_probability, or the score is above max_ood. */
int prefix_decide(const float *logits, float min_probability, float max_ood);
#endif

#ifdef PREFIX_SELFTEST
/* Compute the sums of the golden vectors: returns for how many images they are not onnxruntime's, 0 if all is well. */
int prefix_selftest(void *arena);
#endif

#ifdef __cplusplus
}
#endif

#endif /* PREFIX_H */

#if defined(MNIST_EDGE_IMPLEMENTATION) && !defined(PREFIX_IMPLEMENTED)
#define PREFIX_IMPLEMENTED

#include <string.h>
#ifdef PREFIX_PROBABILITY
#include <math.h>
#endif

/* Where flash is scarce, one function computes all layers. Elsewhere the compiler makes one for each. */
#if defined(__GNUC__) && defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__) && !defined(__arm__)
#define PREFIX_AT_ONCE 4 /* positions of the kernel, as many as there are registers for */
#define PREFIX_EACH static inline __attribute__((always_inline))
#define PREFIX_APART PREFIX_EACH
#define PREFIX_UNROLL
#else
#define PREFIX_GENERIC
#define PREFIX_AT_ONCE 2
#define PREFIX_EACH static
#ifdef __GNUC__
#define PREFIX_APART static __attribute__((noinline))
#else
#define PREFIX_APART static
#endif
#if defined(__ARM_FEATURE_DSP) && defined(__ARMEL__) && (defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 10))
#define PREFIX_DSP
#endif
#if defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__) && !defined(__clang__)
#define PREFIX_UNROLL _Pragma("GCC unroll 4")
#else
#define PREFIX_UNROLL
#endif
#endif

/* A tap is one of the bytes that the kernel sees, as wide as the fastest instructions take it. */
#if defined(PREFIX_GENERIC) && !defined(PREFIX_DSP)
typedef uint8_t prefix_tap;
#else
typedef int16_t prefix_tap;
#endif

typedef struct {
    const int8_t *weights;     /* [outputs][kernel_height][kernel_width][channels] */
    const int32_t *bias;       /* [outputs] */
    const int32_t *scale;      /* [outputs]; NULL in the last layer, whose sums are the result */
    const uint8_t *shift;      /* [outputs]; NULL in the last layer */
    const int64_t *thresholds; /* [steps] or NULL: where the byte of a function of the scaled and shifted sum changes */
    const uint8_t *table;      /* [steps + 1]: the bytes between them; without thresholds [256] or NULL: of bytes */
    uint32_t steps, taps;      /* taps: how many bytes the kernel sees at a time */
    uint32_t in, out;          /* places in the arena */
    uint16_t height, width, channels, kernel_height, kernel_width, stride_y, stride_x;
    uint16_t top, left;        /* padding */
    uint16_t pool_y, pool_x;   /* an output is the maximum of so many positions of the kernel */
    uint16_t rows, columns, outputs;
    uint8_t zero_in, zero_out; /* the bytes that stand for 0 */
} prefix_layer;

@@labels

@@arrays

PREFIX_EACH int32_t prefix_word(const void *from)
{
    int32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

#ifdef PREFIX_DSP
/* As prefix_add, for taps in fours: an instruction multiplies two pairs of numbers and adds up. */
PREFIX_APART void prefix_add_fours(const prefix_tap *first, size_t apart, const int8_t *w, size_t next, size_t taps,
                                   int32_t *sums)
{
    const prefix_tap *second = first + apart;
    const int8_t *end = w + taps;
    int32_t a0 = 0, a1 = 0, b0 = 0, b1 = 0;
    while (w < end) {
        const int32_t y = prefix_word(w + next), x = prefix_word(w);
        int32_t a = prefix_word(first), b = prefix_word(second), pair = __builtin_arm_sxtb16(x);
        w += 4, first += 2, second += 2;
        a0 = __builtin_arm_smlad(a, pair, a0), b0 = __builtin_arm_smlad(b, pair, b0);
        pair = __builtin_arm_sxtb16(y);
        a1 = __builtin_arm_smlad(a, pair, a1), b1 = __builtin_arm_smlad(b, pair, b1);
        __asm__("" : : : "memory"); /* else more numbers would be loaded at once than there are registers */
        a = prefix_word(first), b = prefix_word(second);
        first += 2, second += 2;
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(x));
        a0 = __builtin_arm_smlad(a, pair, a0), b0 = __builtin_arm_smlad(b, pair, b0);
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(y));
        a1 = __builtin_arm_smlad(a, pair, a1), b1 = __builtin_arm_smlad(b, pair, b1);
    }
    sums[0] += a0, sums[1] += a1, sums[2] += b0, sums[3] += b1;
}
#endif

/* Copy bytes to taps, and return 0 if all are 0. In fours, for the instructions above, their order is 0, 2, 1, 3. */
PREFIX_EACH uint32_t prefix_copy(prefix_tap *to, const uint8_t *from, size_t count, int in_fours)
{
    uint32_t any = 0;
    uint8_t some = 0;
    size_t i = 0;
#ifdef PREFIX_GENERIC
    for (; in_fours && i < count; i += 4) {
        const uint32_t word = (uint32_t)prefix_word(from + i);
#ifdef PREFIX_DSP
        const uint32_t even = word & 0xFF00FF, odd = word >> 8 & 0xFF00FF;
        memcpy(to + i, &even, sizeof even);
        memcpy(to + i + 2, &odd, sizeof odd);
#else
        memcpy(to + i, &word, sizeof word);
#endif
        any |= word;
    }
#else
    (void)in_fours;
#endif
    for (; i < count; ++i) {
        to[i] = from[i];
        some |= from[i];
    }
    return any | some;
}

PREFIX_EACH void prefix_fill(prefix_tap *to, uint8_t byte, size_t count)
{
    size_t i;
    for (i = 0; i < count; ++i)
        to[i] = byte;
}

/* Copy what the kernel sees at one position, padding included. Returns 0 if all of it is 0, so that it adds nothing. */
PREFIX_EACH uint32_t prefix_gather(const prefix_layer *layer, const uint8_t *in, size_t row, size_t column,
                                   prefix_tap *patch)
{
    const size_t channels = layer->channels, width = layer->width, run = layer->kernel_width * channels;
    const size_t top = layer->top, left = layer->left, y = row * layer->stride_y, x = column * layer->stride_x;
    const int inside = x >= left && x + layer->kernel_width <= left + width, in_fours = channels % 4 == 0;
    uint32_t any = layer->zero_in;
    size_t i, j;
    for (i = y; i < y + layer->kernel_height; ++i) {
        if (i < top || i >= top + layer->height) {
            prefix_fill(patch, layer->zero_in, run);
            patch += run;
        } else if (inside) {
            any |= prefix_copy(patch, in + ((i - top) * width + x - left) * channels, run, in_fours);
            patch += run;
        } else {
            for (j = x; j < x + layer->kernel_width; ++j) {
                if (j < left || j >= left + width)
                    prefix_fill(patch, layer->zero_in, channels);
                else
                    any |= prefix_copy(patch, in + ((i - top) * width + j - left) * channels, channels, in_fours);
                patch += channels;
            }
        }
    }
    return any;
}

/* Multiply the taps of some positions with the weights of two outputs, and add the products to sums: those of the first
   position, then those of the next. Positions are `apart`, the weights of the second output begin `next` after w. */
PREFIX_APART void prefix_add(const prefix_tap *first, size_t apart, const int8_t *w, size_t next, size_t taps,
                             int32_t *sums)
{
    const prefix_tap *second = first + apart;
    const int8_t *v = w + next;
    int32_t a0 = 0, a1 = 0, b0 = 0, b1 = 0;
    size_t i;
#ifdef PREFIX_GENERIC
#ifndef PREFIX_DSP
    PREFIX_UNROLL
#endif
    for (i = 0; i < taps; ++i) {
        const int16_t a = first[i], b = second[i], x = w[i], y = v[i];
        a0 += a * x, a1 += a * y, b0 += b * x, b1 += b * y;
    }
#else
    const prefix_tap *third = second + apart, *fourth = third + apart;
    int32_t c0 = 0, c1 = 0, d0 = 0, d1 = 0;
    for (i = 0; i < taps; ++i) {
        const int16_t a = first[i], b = second[i], c = third[i], d = fourth[i], x = w[i], y = v[i];
        a0 += a * x, a1 += a * y, b0 += b * x, b1 += b * y;
        c0 += c * x, c1 += c * y, d0 += d * x, d1 += d * y;
    }
    sums[4] += c0, sums[5] += c1, sums[6] += d0, sums[7] += d1;
#endif
    sums[0] += a0, sums[1] += a1, sums[2] += b0, sums[3] += b1;
}

/* The sums of two outputs, as above. Beyond the last output, the last one's. */
PREFIX_EACH void prefix_sum(const prefix_layer *layer, size_t output, const prefix_tap *patches, size_t apart,
                            int32_t *sums)
{
    const size_t taps = layer->taps;
    const size_t last = output + 1 < layer->outputs ? output + 1 : output, next = (last - output) * taps;
    const int8_t *w = layer->weights + output * taps;
    size_t i;
    for (i = 0; i < 2 * PREFIX_AT_ONCE; i += 2) {
        sums[i] = layer->bias[output];
        sums[i + 1] = layer->bias[last];
    }
#ifdef PREFIX_DSP
    if (layer->channels % 4 == 0) {
        prefix_add_fours(patches, apart, w, next, taps, sums);
        return;
    }
#endif
    prefix_add(patches, apart, w, next, taps, sums);
}

/* The byte of a sum: sum * scale / 2^shift, rounded as onnxruntime does, in float32 and half to even; plus zero. */
PREFIX_EACH uint8_t prefix_round(int32_t sum, int32_t scale, unsigned shift, int32_t zero)
{
    const int64_t one = (int64_t)1 << shift, near = one >> 16;
    const int64_t scaled = (int64_t)sum * scale + one / 2 + zero * one;
    int64_t byte = scaled >> shift, rest = (scaled + near) & (one - 1), tie;
    /* What lies within half a step of float32 from a tie becomes the tie, and a tie goes to the even neighbour. */
    if (rest <= 2 * near && ((byte - zero) & 1) != 0) {
        const int up = rest < near;
        tie = 2 * (byte - zero) + (up ? 1 : -1);
        tie = tie < 0 ? -tie : tie;
        while ((tie & (tie - 1)) != 0)
            tie &= tie - 1; /* the highest bit */
        if ((up ? near - rest : rest - near) <= (tie << shift) >> 25)
            byte += up ? 1 : -1;
    }
    return (uint8_t)(byte < 0 ? 0 : byte > 255 ? 255 : byte);
}

PREFIX_EACH uint8_t prefix_byte(const prefix_layer *layer, size_t output, int32_t sum)
{
    const int32_t scale = layer->scale[output];
    const unsigned shift = layer->shift[output];
#ifdef PREFIX_GENERIC
    if (sum <= 0 && layer->zero_out == 0 && !layer->table) /* spares a product where branches are cheap */
        return 0;
#endif
    if (layer->thresholds) {
        const int64_t scaled = (int64_t)sum * scale * ((int64_t)1 << shift);
        size_t step = 0;
        while (step < layer->steps && layer->thresholds[step] <= scaled)
            ++step;
        return layer->table[step];
    } else {
        const uint8_t byte = prefix_round(sum, scale, shift, layer->zero_out);
        return layer->table ? layer->table[byte] : byte;
    }
}

/* A convolution with a max pool. The maximum of the sums is rounded, which is the maximum of the rounded sums. */
PREFIX_EACH void prefix_pooled(const prefix_layer *layer, const uint8_t *in, uint8_t *out, prefix_tap *patches,
                               int32_t *best)
{
    const size_t taps = layer->taps, outputs = layer->outputs;
    const size_t window = (size_t)layer->pool_y * layer->pool_x;
    int32_t sums[2 * PREFIX_AT_ONCE];
    size_t row, column, i, k, o;
    for (row = 0; row < layer->rows * layer->pool_y; row += layer->pool_y) {
        for (column = 0; column < layer->columns * layer->pool_x; column += layer->pool_x) {
            for (o = 0; o < outputs + outputs % 2; ++o)
                best[o] = INT32_MIN;
            for (i = 0; i < window; i += PREFIX_AT_ONCE) {
                uint32_t any = 0;
                for (k = 0; k < PREFIX_AT_ONCE; ++k) {
                    const size_t place = i + k < window ? i + k : window - 1; /* the last one, once more */
                    any |= prefix_gather(layer, in, row + place / layer->pool_x, column + place % layer->pool_x,
                                         patches + k * taps);
                }
                for (o = 0; any == 0 && o < outputs; ++o)
                    best[o] = best[o] > layer->bias[o] ? best[o] : layer->bias[o];
                for (o = 0; any != 0 && o < outputs; o += 2) {
                    prefix_sum(layer, o, patches, taps, sums);
                    PREFIX_UNROLL
                    for (k = 0; k < 2 * PREFIX_AT_ONCE; ++k)
                        best[o + k % 2] = best[o + k % 2] > sums[k] ? best[o + k % 2] : sums[k];
                }
            }
            for (o = 0; o < outputs; ++o)
                *out++ = prefix_byte(layer, o, best[o]);
        }
    }
}

/* A convolution without a pool. */
PREFIX_EACH void prefix_plain(const prefix_layer *layer, const uint8_t *in, uint8_t *out, prefix_tap *patches)
{
    const size_t taps = layer->taps, outputs = layer->outputs;
    const size_t columns = layer->columns, pixels = layer->rows * columns;
    int32_t sums[2 * PREFIX_AT_ONCE];
    size_t i, k, o;
    for (i = 0; i < pixels; i += PREFIX_AT_ONCE) {
        for (k = 0; k < PREFIX_AT_ONCE && i + k < pixels; ++k)
            prefix_gather(layer, in, (i + k) / columns, (i + k) % columns, patches + k * taps);
        for (o = 0; o < outputs; o += 2) {
            prefix_sum(layer, o, patches, taps, sums);
            PREFIX_UNROLL
            for (k = 0; k < 2 * PREFIX_AT_ONCE; ++k)
                if (i + k / 2 < pixels && o + k % 2 < outputs)
                    out[(i + k / 2) * outputs + o + k % 2] = prefix_byte(layer, o + k % 2, sums[k]);
        }
    }
}

/* A linear layer, whose kernel sees all of the input at once. The last layer has no bytes, only sums. */
PREFIX_EACH void prefix_linear(const prefix_layer *layer, const uint8_t *in, uint8_t *out, int32_t *results,
                               prefix_tap *patches)
{
    int32_t sums[2 * PREFIX_AT_ONCE];
    size_t j, o;
    prefix_copy(patches, in, layer->taps, layer->channels % 4 == 0);
    for (o = 0; o < layer->outputs; o += 2) {
        prefix_sum(layer, o, patches, 0, sums);
        for (j = 0; j < 2 && o + j < layer->outputs; ++j) {
            if (layer->scale)
                out[o + j] = prefix_byte(layer, o + j, sums[j]);
            else
                results[o + j] = sums[j];
        }
    }
}

PREFIX_EACH void prefix_run(const prefix_layer *layer, const uint8_t *pixels, uint8_t *arena, int32_t *results)
{
    uint8_t *start = arena + (4 - (uintptr_t)arena % 4) % 4, *bytes = start + 4 * PREFIX_POOLED + 2 * PREFIX_TAPS;
    int32_t *best = (int32_t *)(void *)start;
#ifdef PREFIX_GENERIC
    prefix_tap *patches = (prefix_tap *)(void *)(start + 4 * PREFIX_POOLED);
#else
    prefix_tap patches[2 * PREFIX_TAPS];
#endif
    const uint8_t *in = layer == prefix_layers ? pixels : bytes + layer->in;
    if (layer->kernel_height == layer->height && layer->kernel_width == layer->width && !layer->top && !layer->left &&
        layer->rows * layer->columns == 1)
        prefix_linear(layer, in, bytes + layer->out, results, patches);
    else if (layer->pool_y * layer->pool_x > 1)
        prefix_pooled(layer, in, bytes + layer->out, patches, best);
    else
        prefix_plain(layer, in, bytes + layer->out, patches);
}

void prefix_sums(const uint8_t *pixels, void *arena, int32_t *sums)
{
#ifdef PREFIX_GENERIC
    size_t i;
    for (i = 0; i < sizeof prefix_layers / sizeof *prefix_layers; ++i)
        prefix_run(prefix_layers + i, pixels, (uint8_t *)arena, sums);
#else
@@calls
#endif
}

static int prefix_winner(const float *logits)
{
    int winner = 0, i;
    for (i = 1; i < PREFIX_CLASSES; ++i)
        if (logits[i] > logits[winner])
            winner = i;
    return winner;
}

int prefix_logits(const uint8_t *pixels, void *arena, float *logits)
{
    int32_t sums[PREFIX_CLASSES];
    int i;
    prefix_sums(pixels, arena, sums);
    for (i = 0; i < PREFIX_CLASSES; ++i)
        logits[i] = (float)sums[i] * prefix_steps[i];
    return prefix_winner(logits);
}

#ifdef PREFIX_PROBABILITY
/* The sum of exp((logit - highest logit) / temperature). */
static double prefix_total(const float *logits, double temperature)
{
    const double highest = logits[prefix_winner(logits)];
    double total = 0;
    int i;
    for (i = 0; i < PREFIX_CLASSES; ++i)
        total += exp((logits[i] - highest) / temperature);
    return total;
}

float prefix_probability(const float *logits)
{
    return (float)(1 / prefix_total(logits, PREFIX_TEMPERATURE));
}

float prefix_ood_score(const float *logits)
{
    const int last = (int)(sizeof prefix_energies / sizeof *prefix_energies) - 1;
    const double energy = -logits[prefix_winner(logits)] - log(prefix_total(logits, 1));
    double share;
    int i = 0;
    if (energy < prefix_energies[0])
        return 0;
    while (i < last && energy >= prefix_energies[i + 1])
        ++i;
    if (i == last)
        return (float)prefix_scores[last];
    share = (energy - prefix_energies[i]) / (prefix_energies[i + 1] - prefix_energies[i]);
    return (float)(prefix_scores[i] + share * (prefix_scores[i + 1] - prefix_scores[i]));
}

int prefix_decide(const float *logits, float min_probability, float max_ood)
{
    const int abstains = prefix_probability(logits) < min_probability || prefix_ood_score(logits) > max_ood;
    return abstains ? -1 : prefix_winner(logits);
}
#endif

#ifdef PREFIX_SELFTEST
int prefix_selftest(void *arena)
{
    int32_t sums[PREFIX_CLASSES];
    int wrong = 0, i;
    for (i = 0; i < PREFIX_GOLDEN; ++i) {
        prefix_sums(prefix_golden_pixels + i * PREFIX_PIXELS, arena, sums);
        wrong += memcmp(sums, prefix_golden_sums + i * PREFIX_CLASSES, sizeof sums) != 0;
    }
    return wrong;
}
#endif

#endif /* MNIST_EDGE_IMPLEMENTATION */
