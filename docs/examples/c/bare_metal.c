/* Without an operating system: test the network, then classify one image. */
#define MNIST_EDGE_IMPLEMENTATION
#define DIGITS_SELFTEST
#include "model.h"

static uint8_t arena[DIGITS_ARENA];
static uint8_t pixels[DIGITS_PIXELS]; /* fill it from a camera, a touch panel or a serial line */

volatile int wrong, winner; /* read them with a debugger, or show them on a display */

int main(void)
{
    float logits[DIGITS_CLASSES];
    wrong = digits_selftest(arena);
    winner = digits_logits(pixels, arena, logits);
    return 0;
}
