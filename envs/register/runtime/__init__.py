"""The image that a source tree's tests run in, and which of them work there."""
