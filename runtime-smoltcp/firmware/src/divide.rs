//! Division of 64-bit numbers, as Arm's run-time ABI names it: a bit in each round, in the place of the compiler's own,
//! which takes a kilobyte of flash. A point in time is divided in some 500 instructions, which nothing here does often.
//!
//! In assembly, since the carry is a bit of the sum, and a compiler may make of a loop that divides a call of what it
//! replaces.

core::arch::global_asm!(
    "
    .section .text.strandline_divide, \"ax\", %progbits
    .syntax unified
    .thumb
    .global __aeabi_uldivmod, __aeabi_ldivmod
    .type __aeabi_uldivmod, %function
    .type __aeabi_ldivmod, %function
__aeabi_uldivmod:
    // r1:r0 by r3:r2, which is not zero: the quotient to r1:r0, the rest to r3:r2.
    push {{r4-r6, lr}}
    // Zeros that lead need no rounds: as many as the upper half has.
    clz r6, r1
    rsb r4, r6, #32
    lsr r4, r0, r4
    lsls r1, r6
    orrs r1, r4
    lsls r0, r6
    rsb r6, r6, #64
    movs r4, #0
    movs r5, #0
    // r5:r4, the rest, takes one bit more of the dividend, which are 64 at most: so many fit. If the divisor fits into it, it
    // is taken off, and the quotient, which grows where the dividend has left, gets a one.
1:  adds r0, r0
    adcs r1, r1
    adcs r4, r4
    adcs r5, r5
    cmp r4, r2
    sbcs r12, r5, r3
    blo 2f
    subs r4, r2
    sbcs r5, r3
    adds r0, #1
2:  subs r6, #1
    bne 1b
    mov r2, r4
    mov r3, r5
    pop {{r4-r6, pc}}
    .size __aeabi_uldivmod, . - __aeabi_uldivmod

__aeabi_ldivmod:
    // As above, of numbers with a sign: the rest has the dividend's.
    push {{r4-r6, lr}}
    mov r4, r1
    eor r5, r1, r3
    cmp r1, #0
    bpl 1f
    negs r0, r0
    sbc r1, r1, r1, lsl #1
1:  cmp r3, #0
    bpl 2f
    negs r2, r2
    sbc r3, r3, r3, lsl #1
2:  bl __aeabi_uldivmod
    cmp r5, #0
    bpl 3f
    negs r0, r0
    sbc r1, r1, r1, lsl #1
3:  cmp r4, #0
    bpl 4f
    negs r2, r2
    sbc r3, r3, r3, lsl #1
4:  pop {{r4-r6, pc}}
    .size __aeabi_ldivmod, . - __aeabi_ldivmod
"
);
