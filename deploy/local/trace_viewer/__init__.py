"""The trace viewer: keeps the last traces in memory and shows them as waterfalls, without any outside service.

store      the traces, bounded
receiver   OTLP over gRPC into the store
waterfall  a trace as ordered rows with total and self time; as text for a terminal
pages      the HTTP side: JSON, and one page (page.html)
"""
