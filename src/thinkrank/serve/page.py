"""The page for people."""

from fastapi import APIRouter

page = APIRouter(include_in_schema=False)
