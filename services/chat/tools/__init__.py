"""What a model may call.

tool          the interface of a tool
registry      the tools there are, and which of them a caller may use
calling       one call: checked, bounded in time and length, told to the model in words
current_time  the tool that is built in
"""
