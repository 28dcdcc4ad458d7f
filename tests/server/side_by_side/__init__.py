"""The same requests to this server and to the reference, answer by answer."""
