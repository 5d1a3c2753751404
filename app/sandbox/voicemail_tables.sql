-- As mod_voicemail 1.10.12 creates them. In "public", whoever connects: a role that is called as our schema would put them there.
CREATE TABLE IF NOT EXISTS public.voicemail_msgs (
    created_epoch integer, read_epoch integer, username varchar(255), domain varchar(255), uuid varchar(255),
    cid_name varchar(255), cid_number varchar(255), in_folder varchar(255), file_path varchar(255), message_len integer,
    flags varchar(255), read_flags varchar(255), forwarded_by varchar(255)
);
CREATE TABLE IF NOT EXISTS public.voicemail_prefs (
    username varchar(255), domain varchar(255), name_path varchar(255), greeting_path varchar(255), password varchar(255)
);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx1 ON public.voicemail_msgs (created_epoch);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx2 ON public.voicemail_msgs (username);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx3 ON public.voicemail_msgs (domain);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx4 ON public.voicemail_msgs (uuid);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx5 ON public.voicemail_msgs (in_folder);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx6 ON public.voicemail_msgs (read_flags);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx7 ON public.voicemail_msgs (forwarded_by);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx8 ON public.voicemail_msgs (read_epoch);
CREATE INDEX IF NOT EXISTS voicemail_msgs_idx9 ON public.voicemail_msgs (flags);
CREATE INDEX IF NOT EXISTS voicemail_prefs_idx1 ON public.voicemail_prefs (username);
CREATE INDEX IF NOT EXISTS voicemail_prefs_idx2 ON public.voicemail_prefs (domain);
