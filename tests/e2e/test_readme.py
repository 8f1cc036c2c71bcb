"""What README tells a newcomer to type works as it stands there."""

import asyncio
import re
import sys
from pathlib import Path

from tests.e2e.system import System

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def block(language: str, containing: str) -> str:
    """Returns the one fenced block of that language that holds the text."""
    blocks = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in text]
    assert len(blocks) == 1
    return str(blocks[0])


async def output(*command: str, cwd: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    text, _ = await process.communicate()
    assert process.returncode == 0, text.decode()
    return text.decode()


async def test_the_first_request_over_http(stack: System, tmp_path: Path) -> None:
    script = (block("sh", "$URL/v1/chat") + block("sh", "/openai/v1")).replace("http://127.0.0.1:8080", stack.edge_url)
    text = await output("bash", "-euc", script, cwd=tmp_path)
    assert text.count("event: done") == 1
    assert '"conversations":[{' in text
    assert text.count("data: [DONE]") == 1
    assert re.search(r'"scope":"user","current":[1-9]', text)


async def test_the_first_request_over_grpc(stack: System, tmp_path: Path) -> None:
    script = block("python", "StartRun").replace(".parley/run.json", str(stack.stack.home.path / "run.json"))
    text = await output(sys.executable, "-c", script, cwd=tmp_path)
    assert text == "Hello from the scripted provider."


def test_every_link_leads_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("services/*/README.md")]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.relative_to(ROOT)}: {link}"
