"""The request and the response of ``@rawhttp`` scripts, which import them."""
