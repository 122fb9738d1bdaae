"""Export of each stage to an ONNX bundle, verified against the reference."""
