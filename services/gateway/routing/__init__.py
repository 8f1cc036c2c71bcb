"""Whom a call is tried at, and in which order: `router` orders, `cooldowns` remembers who failed, `sharing` tells the other instances."""
