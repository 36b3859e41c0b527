// Compiles what the other files, which include the header, only declare.
#define FDROUTE_COMPILE_ONCE
#include <fdroute/compile_once.hpp>
