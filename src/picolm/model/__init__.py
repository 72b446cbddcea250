"""Every module that a saved model can contain, its size, its initial values and its Hugging Face form."""
