BEGIN TRANSACTION;
CREATE TABLE adjudication (
	id INTEGER NOT NULL, 
	item INTEGER NOT NULL, 
	choice VARCHAR(16) NOT NULL, 
	strength INTEGER, 
	ranking TEXT, 
	comment TEXT, 
	adjudicator INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(item) REFERENCES item (id), 
	FOREIGN KEY(adjudicator) REFERENCES annotator (id)
);
INSERT INTO "adjudication" VALUES(1,1,'compared',1,NULL,NULL,1,1.79588914460030603416e+09);
CREATE TABLE annotator (
	id INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	password_hash TEXT, 
	simulated BOOLEAN NOT NULL, 
	state VARCHAR(16) DEFAULT 'active' NOT NULL, 
	session_version INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "annotator" VALUES(1,'lead','admin','$argon2id$v=19$m=8,t=1,p=1$d1CZUqYeTrcsGPq4ROrkDQ$X50xFPcCrUuHNAx47NwbtKgY2sRa6xPGJA3/mMTRvf4',0,'active',0,1.7958891445692384243e+09);
INSERT INTO "annotator" VALUES(2,'ann','annotator','$argon2id$v=19$m=8,t=1,p=1$BCzWXNXorCbzof5QXrxy+A$i3SLNR9wzdsGkbFqMD7Az/T8pLnblWDBX7U+10alVzA',0,'active',0,1.79588914457165193562e+09);
CREATE TABLE api_token (
	id INTEGER NOT NULL, 
	annotator INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	token_hash VARCHAR(64) NOT NULL, 
	created_at FLOAT NOT NULL, 
	revoked_at FLOAT, 
	scope VARCHAR(16) DEFAULT 'admin' NOT NULL, 
	expires_at FLOAT, 
	PRIMARY KEY (id), 
	FOREIGN KEY(annotator) REFERENCES annotator (id), 
	UNIQUE (token_hash)
);
CREATE TABLE assignment (
	id INTEGER NOT NULL, 
	item INTEGER NOT NULL, 
	annotator INTEGER NOT NULL, 
	simulated BOOLEAN NOT NULL, 
	state VARCHAR(8) NOT NULL, 
	swapped BOOLEAN NOT NULL, 
	display_order TEXT, 
	leased_at FLOAT NOT NULL, 
	expires_at FLOAT NOT NULL, 
	revision INTEGER NOT NULL, 
	surplus BOOLEAN NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (item, annotator), 
	FOREIGN KEY(item) REFERENCES item (id), 
	FOREIGN KEY(annotator) REFERENCES annotator (id)
);
INSERT INTO "assignment" VALUES(1,1,2,0,'done',0,NULL,1.79588914457896494866e+09,1.79589004457896494861e+09,1,0);
INSERT INTO "assignment" VALUES(2,2,2,0,'done',1,NULL,1.79588914459084272381e+09,1.79589004459084272385e+09,1,0);
INSERT INTO "assignment" VALUES(3,3,2,0,'leased',0,'[1, 0, 2]',1.79588914459507608409e+09,1.79589004459507608417e+09,2,0);
CREATE TABLE event (
	id INTEGER NOT NULL, 
	at FLOAT NOT NULL, 
	annotator INTEGER, 
	kind VARCHAR(32) NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(annotator) REFERENCES annotator (id)
);
INSERT INTO "event" VALUES(1,1.79588914457007098194e+09,NULL,'account added','{"name": "lead", "role": "admin"}');
INSERT INTO "event" VALUES(2,1.79588914457176589967e+09,NULL,'account added','{"name": "ann", "role": "annotator"}');
INSERT INTO "event" VALUES(3,1.79588914457235717769e+09,NULL,'items loaded','{"known": 0, "new": 3, "place": "items"}');
INSERT INTO "event" VALUES(4,1.79588914459507608409e+09,2,'withdrawn','{"item": 3, "revision": 1}');
INSERT INTO "event" VALUES(5,1.79588914460030603416e+09,1,'adjudicated','{"choice": "compared", "item": 1}');
CREATE TABLE item (
	id INTEGER NOT NULL, 
	item_id VARCHAR(200) NOT NULL, 
	group_id VARCHAR(200) NOT NULL, 
	prompt TEXT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	repeat_of INTEGER, 
	only_for INTEGER, 
	known_strength INTEGER, 
	campaign VARCHAR(200), 
	priority FLOAT NOT NULL, 
	overlap INTEGER NOT NULL, 
	done_people INTEGER NOT NULL, 
	done_simulated INTEGER NOT NULL, 
	round INTEGER NOT NULL, 
	created_at FLOAT NOT NULL, 
	fingerprint VARCHAR(16) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (item_id), 
	FOREIGN KEY(repeat_of) REFERENCES item (id), 
	FOREIGN KEY(only_for) REFERENCES annotator (id)
);
INSERT INTO "item" VALUES(1,'i0','group-i0','[{"role": "user", "content": "Question i0?"}]','ordinary',NULL,NULL,NULL,NULL,0.0,1,1,0,0,1.79588914457235717769e+09,'ca6a7014f166e1a4');
INSERT INTO "item" VALUES(2,'i1','group-i1','[{"role": "user", "content": "Question i1?"}]','ordinary',NULL,NULL,NULL,NULL,0.0,1,1,0,0,1.79588914457235717769e+09,'0ce5b5c0ceccc681');
INSERT INTO "item" VALUES(3,'four','group-four','[{"role": "user", "content": "Question four?"}]','ordinary',NULL,NULL,NULL,NULL,0.0,1,0,0,0,1.79588914457235717769e+09,'3ad96b76f321b1fa');
CREATE TABLE judgement (
	id INTEGER NOT NULL, 
	item INTEGER NOT NULL, 
	annotator INTEGER NOT NULL, 
	revision INTEGER NOT NULL, 
	client_key VARCHAR(64) NOT NULL, 
	choice VARCHAR(16) NOT NULL, 
	strength INTEGER, 
	ranking TEXT, 
	swapped BOOLEAN NOT NULL, 
	display_order TEXT, 
	reason TEXT, 
	comment TEXT, 
	flag VARCHAR(32), 
	rubric TEXT, 
	edited_text TEXT, 
	edited_response INTEGER, 
	guidelines_version VARCHAR(64), 
	seconds FLOAT, 
	created_at FLOAT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (item, annotator, revision), 
	FOREIGN KEY(item) REFERENCES item (id), 
	FOREIGN KEY(annotator) REFERENCES annotator (id), 
	UNIQUE (client_key)
);
INSERT INTO "judgement" VALUES(1,1,2,1,'a-key-00000','compared',2,NULL,0,NULL,NULL,'a comment','unsafe','{"helpful": -1}','improved',1,NULL,3.5,1.79588914458621406555e+09);
INSERT INTO "judgement" VALUES(2,2,2,1,'a-key-00001','compared',-2,NULL,1,NULL,NULL,'a comment','unsafe','{"helpful": 1}','improved',0,NULL,3.5,1.795889144591915369e+09);
INSERT INTO "judgement" VALUES(3,3,2,1,'a-key-00002','ranked',NULL,'[2, 1, 2]',0,'[1, 0, 2]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1.79588914459411549571e+09);
INSERT INTO "judgement" VALUES(4,3,2,2,'taken-back','withdrawn',NULL,NULL,0,'[1, 0, 2]',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1.79588914459507608409e+09);
CREATE TABLE meta (
	"key" VARCHAR(64) NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema_version','3');
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
INSERT INTO "response" VALUES(5,3,0,'0','answer 0','runs/one',NULL,1);
INSERT INTO "response" VALUES(6,3,1,'1','answer 1','runs/one',NULL,1);
INSERT INTO "response" VALUES(7,3,2,'2','answer 2','runs/one',NULL,1);
CREATE INDEX item_fingerprint ON item (fingerprint);
CREATE INDEX item_open_done_people ON item (priority DESC, id) WHERE done_people < overlap;
CREATE INDEX item_open_done_simulated ON item (priority DESC, id) WHERE done_simulated < overlap;
CREATE INDEX item_planted ON item (kind, repeat_of) WHERE kind != 'ordinary';
CREATE INDEX assignment_of ON assignment (annotator, state);
CREATE INDEX judgement_by ON judgement (annotator, id);
CREATE INDEX adjudication_of ON adjudication (item, id);
COMMIT;
