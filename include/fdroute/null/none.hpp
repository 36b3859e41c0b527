#pragma once

namespace fdroute::inline v0 {

/// NoNull: no null distribution, for rules that read no p-value (TopK, TopP).
struct NoNull {};

}  // namespace fdroute::inline v0
