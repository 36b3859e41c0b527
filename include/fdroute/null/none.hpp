#pragma once

namespace fdroute::inline v0 {

/// The absence of a null distribution, for rules that look at no p-value (TopK).
struct NoNull {};

}  // namespace fdroute::inline v0
