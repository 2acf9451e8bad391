"""EfficientNet-Lite: a convolutional trunk trained on ImageNet, whose features a bank of good parts compares."""
