"""Engines that write: transformers, the reference, and vLLM."""
