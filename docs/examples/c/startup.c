/* What a Cortex-M runs before main: the vector table, and initial values of variables. */
#include <stdint.h>

extern uint32_t stack_top[], data_start[], data_end[], data_load[], bss_start[], bss_end[];

int main(void);
void reset(void);

void reset(void)
{
    const uint32_t *from = data_load;
    uint32_t *to;
#ifdef __ARM_FP
    *(volatile uint32_t *)0xE000ED88 |= 0xFu << 20; /* switch the floating-point unit on */
    __asm__ volatile("dsb\n\tisb");
#endif
    for (to = data_start; to < data_end; ++to)
        *to = *from++;
    for (to = bss_start; to < bss_end; ++to)
        *to = 0;
    main();
    for (;;)
        continue;
}

static void stop(void)
{
    for (;;)
        continue;
}

/* The first word is the stack, the second where to begin, the others are for faults and system calls. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {
    stack_top, {reset, stop, stop, stop, stop, stop, stop, stop, stop, stop, stop, stop, stop, stop, stop}
};
