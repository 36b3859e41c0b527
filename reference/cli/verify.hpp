#pragma once

#include <cstdio>
#include <string>

#include "forward/model.hpp"

namespace olmoe {

/// What `olmoe verify` is told.
struct VerifyOptions {
  std::string model;  ///< the checkpoint's directory
  Compute compute = Compute::f32;
  Storage kv = Storage::f32;
  // Exactly one of these is given.
  std::string capture;
  std::string preset;
  std::string nulls;  ///< empty: the file that the capture names
  double atol = 1e-4;
  bool json = false;
  std::FILE* table = stdout;  ///< where the lines of the table go, unless `json`
};

/// Compares a model with all that a capture of capture_hf.py or capture_bf16.py holds, and prints
/// what it finds. Throws Error if they differ, or the file is no capture of such a model; what is
/// wrong in the file is never a usage error.
void verify_capture(const Model& model, const VerifyOptions& options);

}  // namespace olmoe
