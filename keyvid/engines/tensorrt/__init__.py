"""TensorRT and TensorRT for RTX: plans built, kept and run."""
