-- PostgreSQL's container runs this once, when it makes its data directory: the role of the service,
-- which is no superuser, and its database. CREATEROLE lets it make a role for each host.
\getenv password DATABASE_PASSWORD
CREATE ROLE lhp LOGIN NOSUPERUSER CREATEROLE PASSWORD :'password';
CREATE DATABASE lhp OWNER lhp;
