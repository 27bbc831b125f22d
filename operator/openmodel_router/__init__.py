"""The gRPC front of models that no pod serves: holds their calls, has them woken, and passes the calls on."""
