"""What is minimised: causal and masked prediction, and the cross-entropy under both."""
