-- Who operates the platform, whatever their roles in organizations.
ALTER TABLE auth.user_account ADD COLUMN operator boolean NOT NULL DEFAULT false;
