#pragma once

/// The whole library but its optional parts: fdroute/eigen.hpp needs Eigen, fdroute/openmp.hpp
/// needs OpenMP. Everything lives in namespace fdroute.

#include "fdroute/any_router.hpp"
#include "fdroute/arch.hpp"
#include "fdroute/bounds.hpp"
#include "fdroute/concepts.hpp"
#include "fdroute/config.hpp"
#include "fdroute/dispatch.hpp"
#include "fdroute/execution.hpp"
#include "fdroute/null/none.hpp"
#include "fdroute/null/normal.hpp"
#include "fdroute/null/tabulated.hpp"
#include "fdroute/parse.hpp"
#include "fdroute/ranking/by_logit.hpp"
#include "fdroute/router.hpp"
#include "fdroute/score/log_softmax.hpp"
#include "fdroute/score/logit.hpp"
#include "fdroute/score/zscore.hpp"
#include "fdroute/selection/absolute_threshold.hpp"
#include "fdroute/selection/benjamini_hochberg.hpp"
#include "fdroute/selection/relative_threshold.hpp"
#include "fdroute/selection/top_p.hpp"
#include "fdroute/selection/topk.hpp"
#include "fdroute/version.hpp"
#include "fdroute/views.hpp"
#include "fdroute/weights/softmax.hpp"
