"""From a whole model to a quantized one that is worth it: calibration, the tool's process, measuring, the verdict."""
