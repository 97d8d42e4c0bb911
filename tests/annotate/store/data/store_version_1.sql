BEGIN TRANSACTION;
CREATE TABLE annotator (
	id INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	password_hash TEXT, 
	simulated BOOLEAN NOT NULL, 
	active BOOLEAN NOT NULL, 
	session_version INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "annotator" VALUES(1,'ann','annotator','$argon2id$none',0,1,0,1.0);
INSERT INTO "annotator" VALUES(2,'bea','reviewer',NULL,0,0,0,2.0);
CREATE TABLE assignment (
	id INTEGER NOT NULL, 
	item INTEGER NOT NULL, 
	annotator INTEGER NOT NULL, 
	simulated BOOLEAN NOT NULL, 
	state VARCHAR(8) NOT NULL, 
	swapped BOOLEAN NOT NULL, 
	leased_at FLOAT NOT NULL, 
	expires_at FLOAT NOT NULL, 
	revision INTEGER NOT NULL, 
	surplus BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (item, annotator), 
	FOREIGN KEY(item) REFERENCES item (id), 
	FOREIGN KEY(annotator) REFERENCES annotator (id)
);
INSERT INTO "assignment" VALUES(1,1,1,0,'done',0,1000.0,1060.0,1,0);
INSERT INTO "assignment" VALUES(2,2,1,0,'skipped',1,1000.0,1060.0,1,0);
INSERT INTO "assignment" VALUES(3,1,2,0,'leased',1,1000.0,1060.0,2,0);
CREATE TABLE event (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	annotator INTEGER, 
	kind VARCHAR(32) NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(annotator) REFERENCES annotator (id)
);
INSERT INTO "event" VALUES(1,1000.0,NULL,'items loaded','{"known": 0, "new": 3, "place": "items"}');
INSERT INTO "event" VALUES(2,1000.0,2,'withdrawn','{"item": 1, "revision": 1}');
CREATE TABLE item (
	id INTEGER NOT NULL, 
	item_id VARCHAR(200) NOT NULL, 
	group_id VARCHAR(200) NOT NULL, 
	prompt TEXT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	repeat_of INTEGER, 
	known_strength INTEGER, 
	priority FLOAT NOT NULL, 
	overlap INTEGER NOT NULL, 
	done_people INTEGER NOT NULL, 
	done_simulated INTEGER NOT NULL, 
	round INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	fingerprint VARCHAR(16) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (item_id), 
	FOREIGN KEY(repeat_of) REFERENCES item (id)
);
INSERT INTO "item" VALUES(1,'a','ga','[{"role": "user", "content": "Question a?"}]','ordinary',NULL,NULL,0.0,2,1,0,0,1000.0,'4972d8fe689fe0db');
INSERT INTO "item" VALUES(2,'b','gb','[{"role": "user", "content": "Question b?"}]','ordinary',NULL,NULL,0.0,2,0,0,0,1000.0,'73cf2ad899d8cf86');
INSERT INTO "item" VALUES(3,'c','gc','[{"role": "user", "content": "Question c?"}]','ordinary',NULL,NULL,0.0,2,0,0,0,1000.0,'41c8d2408c04d0ca');
CREATE TABLE judgement (
	id INTEGER NOT NULL, 
	item INTEGER NOT NULL, 
	annotator INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	client_key VARCHAR(64) NOT NULL, 
	choice VARCHAR(16) NOT NULL, 
	strength INTEGER, 
	swapped BOOLEAN NOT NULL, 
	reason TEXT, 
	comment TEXT, 
	flag VARCHAR(32), 
	rubric TEXT, 
	edited_text TEXT, 
	guidelines_version VARCHAR(64), 
	seconds FLOAT, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (item, annotator, revision), 
	FOREIGN KEY(item) REFERENCES item (id), 
	FOREIGN KEY(annotator) REFERENCES annotator (id), 
	UNIQUE (client_key)
);
INSERT INTO "judgement" VALUES(1,1,1,1,'key-00001','compared',2,0,NULL,NULL,NULL,NULL,NULL,NULL,3.5,1000.0);
INSERT INTO "judgement" VALUES(2,2,1,1,'key-00002','skipped',NULL,1,'hard',NULL,NULL,NULL,NULL,NULL,NULL,1000.0);
INSERT INTO "judgement" VALUES(3,1,2,1,'key-00003','both_bad',NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1000.0);
INSERT INTO "judgement" VALUES(4,1,2,2,'key-00004','withdrawn',NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1000.0);
CREATE TABLE meta (
	"key" VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema_version','1');
INSERT INTO "meta" VALUES('cookie_key','a-key-of-a-test');
CREATE TABLE response (
	id INTEGER NOT NULL, 
	item INTEGER NOT NULL, 
	position INTEGER NOT NULL, 
	response_id VARCHAR(200) NOT NULL, 
	text TEXT NOT NULL, 
	run TEXT NOT NULL, 
	temperature FLOAT, 
	ended BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (item, position), 
	FOREIGN KEY(item) REFERENCES item (id)
);
INSERT INTO "response" VALUES(1,1,0,'a','first answer','runs/one',0.7,1);
INSERT INTO "response" VALUES(2,1,1,'b','second answer','runs/two',1.3,0);
INSERT INTO "response" VALUES(3,2,0,'a','first answer','runs/one',0.7,1);
INSERT INTO "response" VALUES(4,2,1,'b','second answer','runs/two',1.3,0);
INSERT INTO "response" VALUES(5,3,0,'a','first answer','runs/one',0.7,1);
INSERT INTO "response" VALUES(6,3,1,'b','second answer','runs/two',1.3,0);
CREATE INDEX item_open_done_people ON item (priority DESC, id) WHERE done_people < overlap;
CREATE INDEX item_open_done_simulated ON item (priority DESC, id) WHERE done_simulated < overlap;
CREATE INDEX assignment_of ON assignment (annotator, state);
CREATE INDEX judgement_by ON judgement (annotator, id);
COMMIT;
