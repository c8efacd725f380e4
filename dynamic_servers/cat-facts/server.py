"""Tells facts about cats: the smallest server that is of use, to begin one of your own from."""

import os

import httpx
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

mcp = FastMCP("cat-facts", mask_error_details=True)


@mcp.tool(annotations={"readOnlyHint": True, "openWorldHint": True})
def get_cat_fact(max_length: int | None = None) -> str:
    """Tell one fact about cats, another each time.

    Args:
        max_length: How many characters it may have at most.
    """
    url = os.environ.get("CAT_FACTS_URL") or "https://catfact.ninja/fact"
    try:
        answer = httpx.get(url, params={"max_length": max_length} if max_length else None, timeout=20)
        answer.raise_for_status()
        fact = answer.json()["fact"]
    except httpx.HTTPStatusError as error:
        raise ToolError(f"the cat facts answered {error.response.status_code}; try again later") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ToolError(f"the cat facts can't be reached ({type(error).__name__})") from None
    except (ValueError, KeyError, TypeError):
        # What they answer where no fact is as short as that.
        raise ToolError("the cat facts know of none; is max_length too small?") from None
    return str(fact)


if __name__ == "__main__":
    mcp.run()
