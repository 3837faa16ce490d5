"""People and rooms, made by the commands that an operator has."""

import uuid
from dataclasses import dataclass


@dataclass
class Person:
    id: int
    username: str
    name: str
    role: str
    token: str


class School:
    """Makes people and rooms on a target."""

    def __init__(self, target):
        self.target = target

    def person(self, name="Ann Onym", role="student"):
        username = f"{name.split()[0].lower()}-{uuid.uuid4().hex[:8]}"
        user_id = int(self.target.manage("create_user", username, "--role", role, "--name", name))
        return Person(user_id, username, name, role, self.target.manage("create_token", username))

    def room(self, name, *members):
        usernames = [argument for member in members for argument in ("--member", member.username)]
        return int(self.target.manage("create_room", name, *usernames))
