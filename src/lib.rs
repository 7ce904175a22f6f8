//! Layer-wise Relevance Propagation (LRP) for ONNX models.
