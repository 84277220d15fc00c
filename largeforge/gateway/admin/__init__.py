"""What operators tell a running gateway: modes, isolation, drained servers, another topology."""
