"""`nvl-golden record`: a Hugging Face checkpoint's own code, run and recorded."""
