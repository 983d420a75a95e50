/* Classify images of 784 bytes each from standard input. */
#define MNIST_EDGE_IMPLEMENTATION
#define DIGITS_PROBABILITY
#include "model.h"

#include <stdio.h>

int main(void)
{
    static uint8_t arena[DIGITS_ARENA], pixels[DIGITS_PIXELS];
    float logits[DIGITS_CLASSES];
    while (fread(pixels, 1, sizeof pixels, stdin) == sizeof pixels) {
        int winner = digits_logits(pixels, arena, logits);
        printf("%s  %.4f\n", digits_labels[winner], digits_probability(logits));
    }
    return 0;
}
