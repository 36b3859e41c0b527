#pragma once

/// The library's version, https://semver.org. The inline namespace `v0` carries the major number,
/// so that two incompatible versions can live in one program.
#define FDROUTE_VERSION_MAJOR 0
#define FDROUTE_VERSION_MINOR 2
#define FDROUTE_VERSION_PATCH 0
