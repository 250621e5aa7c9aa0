"""The peers of the interoperability tests on gRPC C++, and how they are built."""
