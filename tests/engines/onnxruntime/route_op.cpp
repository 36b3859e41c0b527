// The operator fdroute.Route for ONNX Runtime, over fdroute's C interface. docs/onnxruntime.md
// describes its inputs, outputs and attributes.

// The API is the one of the ONNX Runtime that loads this library, which need not be linked.
#define ORT_API_MANUAL_INIT
#include <fdroute/c_api.h>
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

namespace {

constexpr const char* domain = "fdroute";

void check(fdroute_status status) {
  if (status != FDROUTE_OK)
    throw Ort::Exception(std::string("fdroute.Route: ") + fdroute_last_error(),
                         ORT_INVALID_ARGUMENT);
}

[[noreturn]] void refuse(const std::string& fact) {
  throw Ort::Exception("fdroute.Route: " + fact, ORT_INVALID_ARGUMENT);
}

using Null = std::unique_ptr<fdroute_null, decltype(&fdroute_null_destroy)>;
using Router = std::unique_ptr<fdroute_router, decltype(&fdroute_router_destroy)>;

/// An attribute, or `otherwise` if the node has none of that name.
template <class T>
T attribute(const Ort::ConstKernelInfo& info, const char* name, T otherwise) {
  try {
    return info.GetAttribute<T>(name);
  } catch (const Ort::Exception& error) {
    // ONNX Runtime has one code for this and for an attribute of another type.
    if (std::string_view(error.what()).starts_with("No attribute with name")) return otherwise;
    throw;
  }
}

/// A constant input of doubles with one axis.
std::vector<double> constant(const Ort::ConstKernelInfo& info, std::size_t index) {
  int is_constant = 0;
  const Ort::ConstValue value = info.GetTensorConstantInput(index, &is_constant);
  if (is_constant == 0) refuse("input " + info.GetInputName(index) + " must be an initializer");
  const auto type = value.GetTensorTypeAndShapeInfo();
  if (type.GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE)
    refuse("input " + info.GetInputName(index) + " must hold doubles");
  const auto* first = value.GetTensorData<double>();
  return {first, first + type.GetElementCount()};
}

/// The null distribution of a node: from its file, from its inputs, or none.
Null make_null(const Ort::ConstKernelInfo& info) {
  const auto path = attribute<std::string>(info, "nulls", "");
  const bool by_inputs = info.GetInputCount() > 1;
  if (by_inputs && !path.empty()) refuse("nulls is given, and so is input null_score");
  fdroute_null* null = nullptr;
  if (!path.empty()) {
    check(fdroute_null_load(
        path.c_str(), static_cast<std::int32_t>(attribute<std::int64_t>(info, "layer", 0)), &null));
  } else if (by_inputs) {
    if (info.GetInputCount() != 3) refuse("null_score comes with null_log_sf");
    const auto score = constant(info, 1);
    const auto log_sf = constant(info, 2);
    if (score.size() != log_sf.size()) refuse("null_score and null_log_sf differ in length");
    check(fdroute_null_create(score.data(), log_sf.data(), score.size(),
                              info.GetAttribute<std::string>("score").c_str(), &null));
  }
  return {null, &fdroute_null_destroy};
}

/// The number of experts: the last extent of the logits' shape, which the graph must know.
std::int32_t experts_of(const Ort::ConstKernelInfo& info) {
  const auto type = info.GetInputTypeInfo(0);
  const auto shape = type.GetTensorTypeAndShapeInfo().GetShape();
  if (shape.empty() || shape.back() < 1)
    refuse("the graph must know the last extent of the logits, the number of experts");
  return static_cast<std::int32_t>(std::min<std::int64_t>(shape.back(), INT32_MAX));
}

Router make_router(const Ort::ConstKernelInfo& info) {
  const Null null = make_null(info);
  fdroute_router* router = nullptr;
  check(fdroute_router_create(info.GetAttribute<std::string>("policy").c_str(), experts_of(info),
                              null.get(), nullptr, &router));
  return {router, &fdroute_router_destroy};
}

fdroute_dtype dtype_of(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      return FDROUTE_F32;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
      return FDROUTE_F16;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16:
      return FDROUTE_BF16;
    default:
      refuse("logits must be float, float16 or bfloat16");
  }
}

/// One node of a graph.
class RouteKernel {
 public:
  explicit RouteKernel(const OrtKernelInfo* info)
      : router_(make_router(Ort::ConstKernelInfo(info))) {}

  OrtStatusPtr ComputeV2(OrtKernelContext* raw) noexcept {
    try {
      compute(Ort::KernelContext(raw));
      return nullptr;
    } catch (const Ort::Exception& error) {
      return Ort::Status(error).release();
    } catch (const std::exception& error) {
      return Ort::Status(error).release();
    }
  }

 private:
  void compute(const Ort::KernelContext& context) const {
    const Ort::ConstValue logits = context.GetInput(0);
    const auto type = logits.GetTensorTypeAndShapeInfo();
    std::vector<std::int64_t> shape = type.GetShape();
    const std::int32_t experts = fdroute_router_experts(router_.get());
    if (shape.empty() || shape.back() != experts)
      refuse("the last extent of the logits must be " + std::to_string(experts));
    shape.pop_back();
    const std::int64_t tokens =
        std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
    auto* counts = context.GetOutput(2, shape).GetTensorMutableData<std::int32_t>();
    const std::int32_t capacity = fdroute_router_capacity(router_.get());
    shape.push_back(capacity);
    auto* ids = context.GetOutput(0, shape).GetTensorMutableData<std::int64_t>();
    auto* weights = context.GetOutput(1, shape).GetTensorMutableData<float>();
    std::vector<std::int32_t> narrow(static_cast<std::size_t>(tokens * capacity));
    check(fdroute_route(router_.get(), logits.GetTensorRawData(), dtype_of(type.GetElementType()),
                        tokens, experts, capacity, FDROUTE_REPEAT_VALID, narrow.data(), weights,
                        counts, nullptr));
    std::copy(narrow.begin(), narrow.end(), ids);
  }

  Router router_;
};

struct RouteOp : Ort::CustomOpBase<RouteOp, RouteKernel, true> {
  OrtStatusPtr CreateKernelV2(const OrtApi&, const OrtKernelInfo* info,
                              void** kernel) const noexcept {
    try {
      *kernel = new RouteKernel(info);
      return nullptr;
    } catch (const Ort::Exception& error) {
      return Ort::Status(error).release();
    } catch (const std::exception& error) {
      return Ort::Status(error).release();
    }
  }

  const char* GetName() const { return "Route"; }

  // logits, null_score, null_log_sf
  std::size_t GetInputTypeCount() const { return 3; }
  ONNXTensorElementDataType GetInputType(std::size_t index) const {
    return index == 0 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED  // any; dtype_of() decides
                      : ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
  }
  OrtCustomOpInputOutputCharacteristic GetInputCharacteristic(std::size_t index) const {
    return index == 0 ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  }

  // ids, weights, counts
  std::size_t GetOutputTypeCount() const { return 3; }
  ONNXTensorElementDataType GetOutputType(std::size_t index) const {
    constexpr ONNXTensorElementDataType types[] = {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
                                                   ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                                   ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32};
    return types[index];
  }
  OrtCustomOpInputOutputCharacteristic GetOutputCharacteristic(std::size_t) const {
    return INPUT_OUTPUT_REQUIRED;
  }
};

}  // namespace

/// What `register_custom_ops_library` of a session's options calls.
extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(
    OrtSessionOptions* raw, const OrtApiBase* base) {
  Ort::InitApi(base->GetApi(ORT_API_VERSION));
  try {
    static const RouteOp operation;
    static const Ort::CustomOpDomain fdroute = [] {
      Ort::CustomOpDomain made(domain);
      made.Add(&operation);
      return made;
    }();
    Ort::UnownedSessionOptions options(raw);
    options.Add(fdroute);
    return nullptr;
  } catch (const std::exception& error) {
    return Ort::Status(error).release();
  }
}
