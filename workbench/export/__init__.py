"""Trained runs as files that other programs load: adapter, merged model, GGUF, classifier. Each is verified."""
