"""The agent server behind `turnlane demo`, the burst that is fired at it, and the judging of what happened.

Everything below this package may import the packages of the extra `demo`: fastapi, uvicorn, openai.
Nothing outside it imports it at module level.
"""
