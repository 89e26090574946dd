// Package trigger decides when the loop acts: how events become rounds
// (Slot, Gate), how failures are tried again (Backoff), how a fight over an
// object is slowed down (Fights), and how a flapping link is (Flaps).
//
// Nothing here reads a clock: every decision takes the time as an argument, so
// that a test needs no waiting.
package trigger
