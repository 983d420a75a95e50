/* For run_on_qemu.py: compares the logits of COUNT images with onnxruntime's. */
#define MNIST_EDGE_IMPLEMENTATION
#include "model.h"

#ifdef BARE_METAL
#define SYSTICK ((volatile uint32_t *)0xE000E010) /* a timer: control, start value, value */
#define PAINT 0x5AA55AA5u

extern uint32_t bss_end[];

/* Ask the emulator for something ("semihosting"): 4 writes a string, 0x18 ends. */
static void ask(uint32_t what, const void *argument)
{
    register uint32_t r0 __asm__("r0") = what;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static void report(const char *name, uint32_t value)
{
    char text[12] = "0123456789\n";
    char *digit = text + 10;
    do {
        *--digit = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    ask(4, name);
    ask(4, digit);
}

/* Fill what lies between the variables and the stack in use. What is overwritten later was stack. */
static uint32_t *paint(void)
{
    uint32_t *end, *word;
    __asm__("mov %0, sp" : "=r"(end));
    end -= 16;
    for (word = bss_end; word < end; ++word)
        *word = PAINT;
    return end;
}
#else
#include <stdio.h>

static void report(const char *name, uint32_t value)
{
    printf("%s%u\n", name, (unsigned)value);
}
#endif

__asm__(".section .rodata, \"a\"\n"
        ".global images, expected\n"
        ".balign 4\n"
        "images: .incbin \"images.bin\"\n"
        ".balign 4\n"
        "expected: .incbin \"expected.bin\"\n"
        ".text\n");
extern const uint8_t images[COUNT][PREFIX_PIXELS];
extern const float expected[COUNT][PREFIX_CLASSES];

static uint8_t arena[PREFIX_ARENA];
static float logits[PREFIX_CLASSES];

int main(void)
{
    uint32_t differing = 0, ticks = 0;
    size_t i;
#ifdef BARE_METAL
    uint32_t *unused = bss_end, *end = paint();
    SYSTICK[1] = 0xFFFFFF;
    SYSTICK[0] = 5;
#endif
    for (i = 0; i < COUNT; ++i) {
#ifdef BARE_METAL
        const uint32_t start = SYSTICK[2];
        prefix_logits(images[i], arena, logits);
        ticks += (start - SYSTICK[2]) & 0xFFFFFF;
#else
        prefix_logits(images[i], arena, logits);
#endif
        differing += memcmp(logits, expected[i], sizeof logits) != 0;
    }
    report("images ", COUNT);
    report("differing ", differing);
#ifdef BARE_METAL
    while (unused < end && *unused == PAINT)
        ++unused;
    report("ticks ", ticks / COUNT);
    report("stack ", (uint32_t)((uint8_t *)end - (uint8_t *)unused));
    ask(0x18, (const void *)0x20026);
#else
    (void)ticks;
#endif
    return 0;
}
