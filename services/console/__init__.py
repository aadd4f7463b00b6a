"""The console: receives traces over OTLP, keeps them in one capped file, and shows them."""
