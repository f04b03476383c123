"""The model as plain PyTorch, and everything about its files: finding, downloading, checking, loading, tokenising."""
