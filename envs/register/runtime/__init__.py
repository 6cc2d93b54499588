"""Choose and build the image that a source tree's tests run in, and find the stable tests."""
