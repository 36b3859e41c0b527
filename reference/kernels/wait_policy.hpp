#pragma once

namespace olmoe {

/// Lets threads that wait for others sleep, as the first thing in main().
///
/// OpenMP's threads spin by default when they wait. Where the processors are busy with something
/// else, a spinning thread keeps the one that it waits for from running, and each wait may take a
/// scheduler's slice. How threads wait is read from the environment before main() begins, so this
/// sets OMP_WAIT_POLICY=passive and starts the program anew, with the `argv` of main(). It does
/// nothing if the environment has OMP_WAIT_POLICY, GOMP_SPINCOUNT or KMP_BLOCKTIME. If the program
/// cannot be started anew, it says so on stderr and goes on.
void sleep_while_waiting(char** argv);

}  // namespace olmoe
