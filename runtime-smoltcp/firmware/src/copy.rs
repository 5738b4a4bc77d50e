//! Copying, filling and comparing memory, as the compiler asks for it: `memcpy`, `memmove`, `memcmp`, and the names that Arm's
//! run-time ABI gives them. Short loops in the place of the compiler's own, which are unrolled: 2.9 KB of flash less.
//!
//! In assembly, since a compiler that meets a loop which copies makes it a call of `memcpy`.

core::arch::global_asm!(
    "
    .section .text.strandline_copy, \"ax\", %progbits
    .syntax unified
    .thumb
    .global memcpy, memmove
    .global __aeabi_memcpy, __aeabi_memcpy4, __aeabi_memcpy8
    .global __aeabi_memmove, __aeabi_memmove4, __aeabi_memmove8
    .type memcpy, %function
    .type memmove, %function
    .type __aeabi_memcpy, %function
    .type __aeabi_memcpy4, %function
    .type __aeabi_memcpy8, %function
    .type __aeabi_memmove, %function
    .type __aeabi_memmove4, %function
    .type __aeabi_memmove8, %function
memcpy:
memmove:
__aeabi_memcpy:
__aeabi_memcpy4:
__aeabi_memcpy8:
__aeabi_memmove:
__aeabi_memmove4:
__aeabi_memmove8:
    // r0: to, which memcpy returns; r1: from; r2: how many bytes. Words may lie anywhere: Armv7-M allows it.
    mov r12, r0
    subs r3, r0, r1
    cmp r3, r2
    blo 3f
1:  subs r2, #4
    blo 2f
    ldr r3, [r1], #4
    str r3, [r12], #4
    b 1b
2:  adds r2, #4
4:  subs r2, #1
    it lo
    bxlo lr
    ldrb r3, [r1], #1
    strb r3, [r12], #1
    b 4b
    // The target begins inside the source: from the end down.
3:  add r1, r2
    add r12, r2
5:  subs r2, #4
    blo 6f
    ldr r3, [r1, #-4]!
    str r3, [r12, #-4]!
    b 5b
6:  adds r2, #4
7:  subs r2, #1
    it lo
    bxlo lr
    ldrb r3, [r1, #-1]!
    strb r3, [r12, #-1]!
    b 7b
    .size memcpy, . - memcpy
"
);

core::arch::global_asm!(
    "
    .section .text.strandline_fill, \"ax\", %progbits
    .syntax unified
    .thumb
    .global __aeabi_memclr, __aeabi_memclr4, __aeabi_memclr8
    .global __aeabi_memset, __aeabi_memset4, __aeabi_memset8
    .type __aeabi_memclr, %function
    .type __aeabi_memclr4, %function
    .type __aeabi_memclr8, %function
    .type __aeabi_memset, %function
    .type __aeabi_memset4, %function
    .type __aeabi_memset8, %function
__aeabi_memclr:
__aeabi_memclr4:
__aeabi_memclr8:
    movs r2, #0
__aeabi_memset:
__aeabi_memset4:
__aeabi_memset8:
    // r0: what; r1: how many bytes; r2: with which, in each byte of a word.
    uxtb r2, r2
    orr r2, r2, r2, lsl #8
    orr r2, r2, r2, lsl #16
1:  subs r1, #4
    blo 2f
    str r2, [r0], #4
    b 1b
2:  adds r1, #4
3:  subs r1, #1
    it lo
    bxlo lr
    strb r2, [r0], #1
    b 3b
    .size __aeabi_memclr, . - __aeabi_memclr
"
);

core::arch::global_asm!(
    "
    .section .text.strandline_compare, \"ax\", %progbits
    .syntax unified
    .thumb
    .global memcmp
    .type memcmp, %function
memcmp:
    // r0 and r1: what; r2: how many bytes. Mostly ids, which differ in the first byte or not at all.
    mov r12, r0
1:  subs r2, #1
    blo 2f
    ldrb r0, [r12], #1
    ldrb r3, [r1], #1
    subs r0, r3
    beq 1b
    bx lr
2:  movs r0, #0
    bx lr
    .size memcmp, . - memcmp
"
);
