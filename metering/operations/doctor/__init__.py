"""Does AWS do here what the service relies on, and what no emulator shows?"""
